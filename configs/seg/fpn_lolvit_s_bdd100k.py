_base_ = './fpn_lolvit_x_bdd100k.py'

model = dict(backbone=dict(arch='s'), neck=dict(in_channels=[48, 112, 352, 608]))
