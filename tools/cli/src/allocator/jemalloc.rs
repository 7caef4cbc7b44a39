//! The allocator behind libtorch's tensors.
//!
//! glibc gives memory of more than 32 MiB back to the system when it is freed, so that every large tensor is zeroed page by
//! page again: adding two vectors of 50 MiB takes ten times as long as adding in place. jemalloc keeps memory and asks for
//! large pages. It takes the place of `malloc` for the whole process, libtorch included.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc when it starts: no arena of their own for large tensors, from which memory is returned at once;
/// transparent large pages; freed memory is kept, because a training step takes longer than any sensible delay.
#[unsafe(export_name = "malloc_conf")]
static OPTIONS: Options =
    Options(c"oversize_threshold:0,thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1".as_ptr());

#[repr(transparent)]
struct Options(*const std::ffi::c_char);

// SAFETY: the pointer is to a literal, which nobody changes.
unsafe impl Sync for Options {}
