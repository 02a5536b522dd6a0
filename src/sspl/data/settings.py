"""TEMP"""
from pathlib import Path
from typing import Literal
import csv, numpy as np
from sspl.settings import Settings, build
from sspl.data.records import *
from sspl.domain.attributes import *
class DataSettings(Settings):
    format: Literal["celeba","folder","csv"]
    root: Path
    masks: Path|None=None
    images: Path|None=None
    crop: Literal["none","celeba"]="none"
    def box(self): return (0.,0.,1.,1.) if self.crop=="none" else (4/178,28/218,174/178,198/218)
    def open(self):
        r=self.root
        if self.format=="celeba":
            ls=(r/'list_attr_celeba.txt').read_text().splitlines(); names=ls[1].split(); sp=dict(l.split() for l in (r/'list_eval_partition.txt').read_text().splitlines() if l)
            rows=[l.split() for l in ls[2:] if l.strip()]
            n=tuple(x[0] for x in rows); lab=(np.array([[int(v) for v in x[1:]] for x in rows])==1).astype(np.int8)
            f=FaceSet(str(r),schema_for(names),n,tuple(r/'img_align_celeba'/x for x in n),(None,)*len(n),tuple(SPLITS[int(sp[x])] for x in n),lab)
        else:
            n=tuple(sorted(p.relative_to(r).as_posix() for p in r.rglob('*') if p.suffix in IMAGE_SUFFIXES))
            f=FaceSet(str(r),AttributeSchema((),()),n,tuple(r/x for x in n),(None,)*len(n),(None,)*len(n),np.zeros((len(n),0),np.int8))
        return f.with_masks(self.masks) if self.masks else f
def parse_data_spec(t):
    h,*kv=t.split(','); k,_,r=h.rpartition(':')
    return build(DataSettings,{"format":k or "folder","root":r,**dict(x.split('=') for x in kv)})
