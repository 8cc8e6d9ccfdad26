# No local 3x3 before the fusion.
_base_ = '../cls/lolvit_x_cue_far.py'

model = dict(backbone=dict(without=['local']))
