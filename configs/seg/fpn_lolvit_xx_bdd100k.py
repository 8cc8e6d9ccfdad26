_base_ = './fpn_lolvit_x_bdd100k.py'

model = dict(backbone=dict(arch='xx'), neck=dict(in_channels=[24, 64, 192, 352]))
