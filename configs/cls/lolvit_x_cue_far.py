_base_ = './lolvit_x_cue_near.py'

train_dataloader = dict(dataset=dict(form='far'))
val_dataloader = dict(dataset=dict(form='far'))
test_dataloader = dict(dataset=dict(form='far'))
