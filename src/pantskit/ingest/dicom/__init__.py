"""DICOM objects: headers, pixels in Hounsfield units, the place of every slice."""
