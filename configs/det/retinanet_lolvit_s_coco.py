_base_ = './retinanet_lolvit_x_coco.py'

model = dict(backbone=dict(arch='s'), neck=dict(in_channels=[112, 352, 608]))
