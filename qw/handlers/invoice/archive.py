"""Turns a PDF of reportlab into a PDF/A-3 with the invoice embedded as XML, as Factur-X requires.

Adds XMP metadata, the colour space (sRGB), and the file with its relationship. Reportlab already embeds the fonts.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

from reportlab.pdfbase.pdfdoc import XMP, PDFArray, PDFCatalog, PDFDictionary, PDFName, PDFStream, PDFString

from qw.handlers.invoice.e_invoice import xml_text

_SPACE = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
_PROPERTIES = {
    "DocumentFileName": "name of the embedded XML invoice file",
    "DocumentType": "INVOICE",
    "Version": "The actual version of the Factur-X XML schema",
    "ConformanceLevel": "The conformance level of the embedded Factur-X data",
}
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/">
<pdfaid:part>3</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance></rdf:Description>
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>
<dc:creator><rdf:Seq><rdf:li>{author}</rdf:li></rdf:Seq></dc:creator>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{subject}</rdf:li></rdf:Alt></dc:description></rdf:Description>
<rdf:Description rdf:about="" xmlns:pdf="http://ns.adobe.com/pdf/1.3/"><pdf:Producer>qw</pdf:Producer></rdf:Description>
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"><xmp:CreatorTool>qw</xmp:CreatorTool>
<xmp:CreateDate>{made}</xmp:CreateDate><xmp:ModifyDate>{made}</xmp:ModifyDate></rdf:Description>
<rdf:Description rdf:about="" xmlns:fx="{space}"><fx:DocumentType>INVOICE</fx:DocumentType>
<fx:DocumentFileName>{file}</fx:DocumentFileName><fx:Version>1.0</fx:Version>
<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel></rdf:Description>
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"
 xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">
<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">
<pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>
<pdfaSchema:namespaceURI>{space}</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix>
<pdfaSchema:property><rdf:Seq>{properties}</rdf:Seq></pdfaSchema:property>
</rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
_PROPERTY = """<rdf:li rdf:parseType="Resource"><pdfaProperty:name>{name}</pdfaProperty:name>
<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>
<pdfaProperty:description>{about}</pdfaProperty:description></rdf:li>"""


def embed(document: Any, *, name: str, content: bytes, made: datetime) -> None:
    """Embed the XML *content* in a document of reportlab, whose title, author and subject must be set."""
    catalog = document.Catalog
    catalog.__NoDefault__ = [*PDFCatalog.__NoDefault__, "OutputIntents", "AF"]
    file = document.Reference(_file(document, name, content, made))
    catalog.AF = PDFArray([file])
    catalog.Names = PDFDictionary({"EmbeddedFiles": PDFDictionary({"Names": PDFArray([PDFString(name), file])})})
    catalog.OutputIntents = PDFArray([_colours(document)])
    catalog.Metadata = XMP(creator=lambda _: _metadata(document.info, name, made))


def _file(document: Any, name: str, content: bytes, made: datetime) -> PDFDictionary:
    stream = PDFStream(content=content)
    parameters = {"ModDate": PDFString(f"D:{made:%Y%m%d%H%M%S}+00'00'"), "Size": len(content)}
    stream.dictionary["Type"] = PDFName("EmbeddedFile")
    stream.dictionary["Subtype"] = "/text#2Fxml"  # PDFName cannot escape the slash
    stream.dictionary["Params"] = PDFDictionary(parameters)
    embedded = document.Reference(stream)
    return PDFDictionary({
        "Type": PDFName("Filespec"),
        "F": PDFString(name),
        "UF": PDFString(name),
        "Desc": PDFString("Invoice by EN 16931 (Factur-X)"),
        "AFRelationship": PDFName("Alternative"),
        "EF": PDFDictionary({"F": embedded, "UF": embedded}),
    })  # fmt: skip


def _colours(document: Any) -> PDFDictionary:
    profile = PDFStream(content=_srgb())
    profile.dictionary["N"] = 3
    return PDFDictionary({
        "Type": PDFName("OutputIntent"),
        "S": PDFName("GTS_PDFA1"),
        "OutputConditionIdentifier": PDFString("sRGB"),
        "Info": PDFString("sRGB IEC61966-2.1"),
        "DestOutputProfile": document.Reference(profile),
    })  # fmt: skip


@cache
def _srgb() -> bytes:
    """Return the ICC profile with a fixed creation time, so that an invoice always renders to the same bytes."""
    from PIL.ImageCms import ImageCmsProfile, createProfile

    profile = ImageCmsProfile(createProfile("sRGB")).tobytes()
    made = (2000).to_bytes(2) + b"\0\1" * 2 + bytes(6)
    return profile[:24] + made + profile[36:84] + bytes(16) + profile[100:]


def _metadata(info: Any, name: str, made: datetime) -> bytes:
    properties = "".join(_PROPERTY.format(name=name, about=about) for name, about in _PROPERTIES.items())
    texts = {key: escape(xml_text(getattr(info, key))) for key in ("title", "author", "subject")}
    return _XMP.format(
        **texts, made=f"{made:%Y-%m-%dT%H:%M:%S}+00:00", space=_SPACE, file=name, properties=properties
    ).encode()
