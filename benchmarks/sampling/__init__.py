"""Where the processor is while a network runs: samples of perf, laid on the library's loops."""
