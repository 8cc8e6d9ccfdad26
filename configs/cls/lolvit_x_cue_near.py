_base_ = [
    '../_base_/models/lolvit_x_cls.py',
    '../_base_/datasets/cue.py',
    '../_base_/schedules/adamw_onecycle.py',
    '../_base_/cls_runtime.py',
]

# A plain loss: reading both digits without choosing shows as ln 2.
model = dict(head=dict(num_classes=10, loss=dict(_delete_=True, type='CrossEntropyLoss')))
train_cfg = dict(max_epochs=32)
param_scheduler = dict(eta_max=5e-4)
