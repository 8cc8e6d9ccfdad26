# A quarter of the channels attends.
_base_ = '../cls/lolvit_x_cue_far.py'

model = dict(backbone=dict(global_share=0.25))
