# No windows: full attention.
_base_ = '../cls/lolvit_x_cue_far.py'

model = dict(backbone=dict(fwa_cfg=dict(window=1)))
