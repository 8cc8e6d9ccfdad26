# 7 x 7 windows on maps of any size, as in earlier work.
_base_ = '../cls/lolvit_x_cue_far.py'

model = dict(backbone=dict(fwa_cfg=dict(window=('grid', 7))))
