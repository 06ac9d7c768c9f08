"""The whole path once: synthetic DICOM to a scored segmentation and a page to look at."""
