"""Prints, as JSON, what the rules of Factur-X (EN 16931) have against XML files.

A program of its own: a fault in Saxon, which is native code, ends no test run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import facturx
from saxonche import PySaxonProcessor

RULES = Path(facturx.__file__).parent / "xsd_and_schematron" / "facturx-en16931" / "FACTUR-X_EN16931.xslt"
REPORT = {"svrl": "http://purl.oclc.org/dsdl/svrl"}


def check(stylesheet: Any, file: str) -> dict[str, Any]:
    report = ElementTree.fromstring(stylesheet.transform_to_string(source_file=file))
    return {
        "fired": len(report.findall(".//svrl:fired-rule", REPORT)),
        "failed": [
            (fault.findtext("svrl:text", "", REPORT).strip(), fault.get("location"))
            for fault in report.findall(".//svrl:failed-assert", REPORT)
        ],
    }


if __name__ == "__main__":
    with PySaxonProcessor() as processor:
        compiled = processor.new_xslt30_processor().compile_stylesheet(stylesheet_file=str(RULES))
        print(json.dumps([check(compiled, file) for file in sys.argv[1:]]))
