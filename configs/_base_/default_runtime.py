# What all tasks share; the runtime of a task library adds its scope and its visualizer.
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2, save_best='auto'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
bad_numbers = dict(policy='stop', limit=10)  # or skip, go_back: docs/reliability.md
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0, deterministic=False)
