//! Models of the parts, each by itself: what it promises, whatever the threads around it do.

mod allocator;
mod flush_queue;
mod in_flight;
mod pins;
mod slice_cache;
