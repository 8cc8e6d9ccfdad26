# ReLU over its own sum.
_base_ = '../cls/lolvit_x_cue_far.py'

model = dict(backbone=dict(fwa_cfg=dict(score='relu_norm')))
