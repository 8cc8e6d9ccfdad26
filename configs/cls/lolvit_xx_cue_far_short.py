# For ablations on a CPU: the smallest net, 12 epochs, no data workers.
_base_ = './lolvit_x_cue_far.py'

model = dict(backbone=dict(arch='xx'), head=dict(in_channels=352))
train_cfg = dict(max_epochs=12, val_interval=12)
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = dict(num_workers=0, persistent_workers=False)
