_base_ = [
    '../_base_/models/ssdlite_lolvit_x.py',
    '../_base_/datasets/coco_det_320.py',
    '../_base_/schedules/adamw_200e.py',
    '../_base_/det_runtime.py',
]
