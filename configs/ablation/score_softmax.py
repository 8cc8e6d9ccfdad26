# SoftMax in ReLU's place.
_base_ = '../cls/lolvit_x_cue_far.py'

model = dict(backbone=dict(fwa_cfg=dict(score='softmax')))
