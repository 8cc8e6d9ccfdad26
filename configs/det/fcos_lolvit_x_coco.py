_base_ = [
    '../_base_/models/fcos_lolvit_x.py',
    '../_base_/datasets/coco_det.py',
    '../_base_/schedules/adamw_1x.py',
    '../_base_/det_runtime.py',
]
