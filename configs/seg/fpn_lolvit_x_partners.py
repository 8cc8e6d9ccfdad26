# Which digits have an equal one elsewhere in the scene? The masks mark no other.
_base_ = './fpn_lolvit_x_digits.py'

data_root = 'data/partners'
embedded_data = dict(data_root=data_root, form='partners')
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
