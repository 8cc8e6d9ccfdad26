_base_ = './retinanet_lolvit_x_coco.py'

model = dict(backbone=dict(arch='xx'), neck=dict(in_channels=[64, 192, 352]))
