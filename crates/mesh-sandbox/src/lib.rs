//! HOSTS: pods as network namespaces on one Linux machine.
