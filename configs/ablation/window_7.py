# Windows of 7 x 7 positions on maps of any size.
_base_ = '../cls/lolvit_x_cue_far.py'

model = dict(backbone=dict(fwa_cfg=dict(window=7)))
