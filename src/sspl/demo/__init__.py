"""The whole method on synthetic faces, and its picture."""
