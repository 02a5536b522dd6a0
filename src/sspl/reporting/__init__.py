"""Reports as HTML pages that stand alone, and the results section of a README."""
