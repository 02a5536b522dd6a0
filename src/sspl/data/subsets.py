"""TEMP"""
import numpy as np
def count_for(n,*,count=None,fraction=None): return count or int(n*fraction+.5)
def label_subset(labels,count,*,rule,seed): return np.sort(np.random.default_rng(seed).permutation(len(labels))[:count])
def save_subset(p,names): p.write_text("\n".join(names)+"\n")
