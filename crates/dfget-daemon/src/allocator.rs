//! A hint for the allocator.

/// Freed once, a block of this size tells glibc's allocator that such are usual: it then keeps
/// twice as much free memory at the end of a heap before it gives that back to the system.
const USUAL: usize = 512 << 10;

/// Lets freed memory stay with the process for a while.
///
/// Buffers of a download are made on one thread and dropped on another. By default all that is
/// free at the end of a heap goes back to the system beyond 128 KiB, and comes back page by page,
/// by a fault each: for every GiB that was downloaded, more than 100,000. The threshold adapts to
/// what is freed (mallopt(3), M_TRIM_THRESHOLD); other allocators take no notice. A larger block
/// spares more faults and costs more memory: see `docs/design/008-the-bulk-path.md`.
pub(crate) fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(USUAL)));
}
