"""The simulator's DICOM objects: CT images in four makers' habits, RTSTRUCT and SEG."""
