# Attention is a residual of its own channels.
_base_ = '../cls/lolvit_x_cue_far.py'

model = dict(backbone=dict(without=['fusion']))
