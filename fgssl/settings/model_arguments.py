"""Names of the arguments of the models in `sweeps/`, so that planning finds a slip without torch.

Written by `python -m tests.settings.pin_model_arguments`; a test compares it with the installed timm.
"""

from collections.abc import Mapping

TIMM = "1.0.31"
"""Version of timm that has these arguments; with another one only the job can check them."""

ARGUMENTS: Mapping[str, str] = {
    "resnet18": """
        aa_layer act_layer avg_down base_width block block_args block_reduce_first cardinality channels
        down_kernel_size drop_block_rate drop_path_rate drop_rate global_pool in_chans layers norm_layer
        output_stride replace_stem_pool stem_type stem_width zero_init_last
    """,
    "resnet50": """
        aa_layer act_layer avg_down base_width block block_args block_reduce_first cardinality channels
        down_kernel_size drop_block_rate drop_path_rate drop_rate global_pool in_chans layers norm_layer
        output_stride replace_stem_pool stem_type stem_width zero_init_last
    """,
    "swin_tiny_patch4_window7_224": """
        always_partition attn_drop_rate depths drop_path_rate drop_rate dynamic_img_size embed_dim embed_layer
        global_pool head_dim img_size in_chans mlp_ratio norm_layer num_heads patch_size proj_drop_rate qkv_bias
        strict_img_size weight_init window_size
    """,
    "vit_base_patch14_reg4_dinov2.lvd142m": """
        act_layer attn_drop_rate attn_layer block_fn class_token depth drop_path_rate drop_rate dynamic_img_pad
        dynamic_img_size embed_dim embed_layer embed_norm_layer fc_norm final_norm fix_init global_pool img_size
        in_chans init_values mlp_layer mlp_ratio no_embed_class norm_layer num_heads patch_drop_rate patch_size
        pool_include_prefix pos_drop_rate pos_embed pre_norm proj_bias proj_drop_rate qk_norm qkv_bias
        reg_tokens scale_attn_norm scale_mlp_norm weight_init
    """,
    "vit_base_patch16_224": """
        act_layer attn_drop_rate attn_layer block_fn class_token depth drop_path_rate drop_rate dynamic_img_pad
        dynamic_img_size embed_dim embed_layer embed_norm_layer fc_norm final_norm fix_init global_pool img_size
        in_chans init_values mlp_layer mlp_ratio no_embed_class norm_layer num_heads patch_drop_rate patch_size
        pool_include_prefix pos_drop_rate pos_embed pre_norm proj_bias proj_drop_rate qk_norm qkv_bias
        reg_tokens scale_attn_norm scale_mlp_norm weight_init
    """,
    "vit_base_patch16_clip_quickgelu_224.openai": """
        act_layer attn_drop_rate attn_layer block_fn class_token depth drop_path_rate drop_rate dynamic_img_pad
        dynamic_img_size embed_dim embed_layer embed_norm_layer fc_norm final_norm fix_init global_pool img_size
        in_chans init_values mlp_layer mlp_ratio no_embed_class norm_layer num_heads patch_drop_rate patch_size
        pool_include_prefix pos_drop_rate pos_embed pre_norm proj_bias proj_drop_rate qk_norm qkv_bias
        reg_tokens scale_attn_norm scale_mlp_norm weight_init
    """,
    "vit_base_patch16_dinov3.lvd1689m": """
        attn_drop_rate attn_only_layer_scale attn_pool_mlp_ratio attn_pool_num_heads attn_type class_token depth
        drop_path_rate drop_rate dynamic_img_pad dynamic_img_size embed_dim global_pool head_init_scale img_size
        in_chans init_values mlp_ratio no_embed_class norm_layer num_heads num_kv_heads num_reg_tokens
        patch_drop_rate patch_size pos_drop_rate proj_drop_rate qk_norm qkv_bias qkv_fused ref_feat_shape
        rope_grid_indexing rope_grid_offset rope_jitter_coords rope_mrope_section rope_rescale_coords
        rope_rotate_half rope_shift_coords rope_temperature rope_type scale_attn_inner scale_mlp swiglu_align_to
        swiglu_mlp use_abs_pos_emb use_fc_norm use_post_norm use_post_transformer_norm use_pre_transformer_norm
        use_rot_pos_emb
    """,
}
"""Names of the arguments by the name of the model, separated by spaces."""
