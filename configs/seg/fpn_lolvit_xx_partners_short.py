# For ablations on a CPU: the smallest net, 600 iterations.
_base_ = './fpn_lolvit_xx_digits_short.py'

data_root = 'data/partners'
embedded_data = dict(data_root=data_root, form='partners')
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
