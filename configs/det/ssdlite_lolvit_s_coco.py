_base_ = './ssdlite_lolvit_x_coco.py'

widths = (352, 608, 512, 256, 256, 128)
model = dict(
    backbone=dict(arch='s'),
    neck=dict(in_channels=widths[:2], out_channels=widths),
    bbox_head=dict(in_channels=widths),
)
