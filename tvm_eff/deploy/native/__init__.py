"""Native libraries: a network whose kernels run by a plan, without TVM's virtual machine."""
