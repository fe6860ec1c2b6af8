"""Running on CUDA: the device, its memory and its kernels.

Read `driver` first: what the compiler asks of a device. It is implemented twice: `pycuda_driver`
on a GPU (with `contexts`, `libcuda`, `assembling`, `launching` and `event_clock`), and
`simulated_driver` (with `simulated_launch`), which runs the same PTX where there is none.
`memory_pool`, `streams` and `interface` (what an array of any library says of itself) serve both.
How a program is called is in `executable`, the short ways into it in `entry` and `native_entry`.

Nothing here imports pycuda or the simulator before `driver.driver()` is asked for one.
"""
