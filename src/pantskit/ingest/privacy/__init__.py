"""Pseudonyms, the scan for leaks, the audit, and de-identified DICOM."""
