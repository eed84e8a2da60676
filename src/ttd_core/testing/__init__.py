"""What tests of problems and plugins build on: the contract as checks, and strategies for hypothesis."""
