# Plain convolutions for Ghost's.
_base_ = '../cls/lolvit_x_cue_far.py'

model = dict(backbone=dict(without=['ghost']))
