//! COMPILER: Kubernetes objects to mesh resources and problems, pure.
