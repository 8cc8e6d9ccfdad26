_base_ = './lolvit_xx_cue_far_short.py'

train_cfg = dict(max_epochs=8, val_interval=8)
train_dataloader = dict(dataset=dict(form='near'))
val_dataloader = dict(dataset=dict(form='near'))
test_dataloader = dict(dataset=dict(form='near'))
