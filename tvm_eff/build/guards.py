from tvm.tirx.compilation_pipeline import get_tir_pipeline, register_tir_pipeline
PIPELINE = "tvm_eff_gpu"
register_tir_pipeline(PIPELINE, lambda: get_tir_pipeline("default"))
