"""Embedded synthetic faces: pictures, exact 19-class masks and attribute labels.

`sspl data synthetic` and the tests use them; no real person is shown. The label rules are
in `sspl.data.synthetic.traits`.
"""

from sspl.data.synthetic.render import SyntheticFace, render_face
from sspl.data.synthetic.traits import SYNTHETIC_ATTRIBUTES
from sspl.data.synthetic.write import write_synthetic

__all__ = ["SYNTHETIC_ATTRIBUTES", "SyntheticFace", "render_face", "write_synthetic"]
