"""The texts of invoices and mails, by language. Names in braces are placeholders."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Words:
    invoice: str
    date: str
    due: str
    customer_number: str
    customer_vat_id: str
    order: str
    ordered: str
    delivered: str
    reference: str
    position: str
    item: str
    quantity: str
    price: str
    tax: str
    amount: str
    carried: str
    subtotal: str
    tax_of: str
    total: str
    pay: str
    pay_by: str
    paid: str
    holder: str
    bank: str
    purpose: str
    scan: str
    page: str
    vat_id: str
    tax_number: str
    demo: str
    ready: str
    greeting: str
    attached: str
    regards: str


_ENGLISH = Words(
    invoice="Invoice",
    date="Invoice date",
    due="Due date",
    customer_number="Customer number",
    customer_vat_id="Your VAT ID",
    order="Order {id}",
    ordered="of {date}",
    delivered="delivered {date}",
    reference="your reference {reference}",
    position="No.",
    item="Description",
    quantity="Quantity",
    price="Unit price",
    tax="Tax",
    amount="Amount",
    carried="Carried forward",
    subtotal="Subtotal",
    tax_of="Tax {rate} on {base}",
    total="Total",
    pay="Please transfer {amount} to the account below.",
    pay_by="Please transfer {amount} by {date} to the account below.",
    paid="Nothing is to be paid.",
    holder="Account holder",
    bank="Bank",
    purpose="Payment reference",
    scan="Scan to pay",
    page="Page {page} of {pages}",
    vat_id="VAT ID",
    tax_number="Tax number",
    demo="DEMO – not a real invoice. QW_SELLER names the seller.",
    ready="Your invoice {number} is ready.",
    greeting="Hello {name},",
    attached="The invoice is attached as a PDF.",
    regards="Kind regards",
)
_GERMAN = Words(
    invoice="Rechnung",
    date="Rechnungsdatum",
    due="Zahlbar bis",
    customer_number="Kundennummer",
    customer_vat_id="Ihre USt-IdNr.",
    order="Bestellung {id}",
    ordered="vom {date}",
    delivered="geliefert am {date}",
    reference="Ihr Zeichen {reference}",
    position="Pos.",
    item="Bezeichnung",
    quantity="Menge",
    price="Einzelpreis",
    tax="USt.",
    amount="Betrag",
    carried="Übertrag",
    subtotal="Summe netto",
    tax_of="{rate} USt. auf {base}",
    total="Rechnungsbetrag",
    pay="Bitte überweisen Sie {amount} auf das folgende Konto.",
    pay_by="Bitte überweisen Sie {amount} bis zum {date} auf das folgende Konto.",
    paid="Es ist nichts zu zahlen.",
    holder="Kontoinhaber",
    bank="Bank",
    purpose="Verwendungszweck",
    scan="Zahlen per Code",
    page="Seite {page} von {pages}",
    vat_id="USt-IdNr.",
    tax_number="Steuernummer",
    demo="MUSTER – keine echte Rechnung. QW_SELLER nennt den Verkäufer.",
    ready="Ihre Rechnung {number} liegt vor.",
    greeting="Guten Tag {name},",
    attached="Die Rechnung ist als PDF angehängt.",
    regards="Freundliche Grüße",
)
_FRENCH = Words(
    invoice="Facture",
    date="Date de facture",
    due="Date d’échéance",
    customer_number="Numéro client",
    customer_vat_id="Votre n° de TVA",
    order="Commande {id}",
    ordered="du {date}",
    delivered="livrée le {date}",
    reference="votre référence {reference}",
    position="N°",
    item="Désignation",
    quantity="Quantité",
    price="Prix unitaire HT",
    tax="TVA",
    amount="Montant HT",
    carried="Report",
    subtotal="Total HT",
    tax_of="TVA {rate} sur {base}",
    total="Total TTC",
    pay="Merci de virer {amount} sur le compte ci-dessous.",
    pay_by="Merci de virer {amount} avant le {date} sur le compte ci-dessous.",
    paid="Aucun montant n’est à payer.",
    holder="Titulaire du compte",
    bank="Banque",
    purpose="Référence du paiement",
    scan="Payer avec le code",
    page="Page {page} sur {pages}",
    vat_id="N° de TVA",
    tax_number="N° fiscal",
    demo="EXEMPLE – ceci n’est pas une facture. QW_SELLER nomme le vendeur.",
    ready="Votre facture {number} est disponible.",
    greeting="Bonjour {name},",
    attached="La facture est jointe au format PDF.",
    regards="Cordialement",
)
_ITALIAN = Words(
    invoice="Fattura",
    date="Data fattura",
    due="Scadenza",
    customer_number="Codice cliente",
    customer_vat_id="La Sua partita IVA",
    order="Ordine {id}",
    ordered="del {date}",
    delivered="consegnato il {date}",
    reference="Vs. riferimento {reference}",
    position="N.",
    item="Descrizione",
    quantity="Quantità",
    price="Prezzo unitario",
    tax="IVA",
    amount="Importo",
    carried="Riporto",
    subtotal="Totale imponibile",
    tax_of="IVA {rate} su {base}",
    total="Totale fattura",
    pay="Si prega di versare {amount} sul conto seguente.",
    pay_by="Si prega di versare {amount} entro il {date} sul conto seguente.",
    paid="Nessun importo da pagare.",
    holder="Intestatario",
    bank="Banca",
    purpose="Causale",
    scan="Paga con il codice",
    page="Pagina {page} di {pages}",
    vat_id="Partita IVA",
    tax_number="Codice fiscale",
    demo="ESEMPIO – non è una fattura. QW_SELLER indica il venditore.",
    ready="La Sua fattura {number} è disponibile.",
    greeting="Buongiorno {name},",
    attached="La fattura è allegata in formato PDF.",
    regards="Cordiali saluti",
)
_SPANISH = Words(
    invoice="Factura",
    date="Fecha de factura",
    due="Vencimiento",
    customer_number="Número de cliente",
    customer_vat_id="Su NIF-IVA",
    order="Pedido {id}",
    ordered="del {date}",
    delivered="entregado el {date}",
    reference="su referencia {reference}",
    position="N.º",
    item="Descripción",
    quantity="Cantidad",
    price="Precio unitario",
    tax="IVA",
    amount="Importe",
    carried="Suma y sigue",
    subtotal="Base imponible",
    tax_of="IVA {rate} sobre {base}",
    total="Total factura",
    pay="Rogamos transfieran {amount} a la cuenta siguiente.",
    pay_by="Rogamos transfieran {amount} antes del {date} a la cuenta siguiente.",
    paid="No hay importe pendiente de pago.",
    holder="Titular",
    bank="Banco",
    purpose="Concepto",
    scan="Pagar con el código",
    page="Página {page} de {pages}",
    vat_id="NIF-IVA",
    tax_number="NIF",
    demo="EJEMPLO – no es una factura. QW_SELLER indica el vendedor.",
    ready="Su factura {number} está disponible.",
    greeting="Hola, {name}:",
    attached="La factura se adjunta en formato PDF.",
    regards="Un saludo",
)
_DUTCH = Words(
    invoice="Factuur",
    date="Factuurdatum",
    due="Vervaldatum",
    customer_number="Klantnummer",
    customer_vat_id="Uw btw-nummer",
    order="Bestelling {id}",
    ordered="van {date}",
    delivered="geleverd op {date}",
    reference="uw kenmerk {reference}",
    position="Nr.",
    item="Omschrijving",
    quantity="Aantal",
    price="Prijs per stuk",
    tax="Btw",
    amount="Bedrag",
    carried="Transport",
    subtotal="Totaal excl. btw",
    tax_of="{rate} btw over {base}",
    total="Te betalen",
    pay="Wij verzoeken u {amount} over te maken op onderstaande rekening.",
    pay_by="Wij verzoeken u {amount} vóór {date} over te maken op onderstaande rekening.",
    paid="U hoeft niets te betalen.",
    holder="Rekeninghouder",
    bank="Bank",
    purpose="Betalingskenmerk",
    scan="Scan om te betalen",
    page="Pagina {page} van {pages}",
    vat_id="Btw-nummer",
    tax_number="Fiscaal nummer",
    demo="VOORBEELD – geen echte factuur. QW_SELLER noemt de verkoper.",
    ready="Uw factuur {number} staat klaar.",
    greeting="Beste {name},",
    attached="De factuur is als PDF bijgevoegd.",
    regards="Met vriendelijke groet",
)

LANGUAGES = {
    "en": _ENGLISH,
    "de": _GERMAN,
    "fr": _FRENCH,
    "it": _ITALIAN,
    "es": _SPANISH,
    "nl": _DUTCH,
}


def words_of(language: str) -> Words:
    """Return the words of the language, or English."""
    return LANGUAGES.get(language, _ENGLISH)
