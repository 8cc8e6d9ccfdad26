_base_ = [
    '../_base_/models/deeplabv3plus_lolvit_x.py',
    '../_base_/datasets/bdd100k_512x1024.py',
    '../_base_/schedules/adamw_80k.py',
    '../_base_/seg_runtime.py',
]
