"""One reader for each label format; each yields a `FaceSet`."""
