"""What is there: each module looks at one thing, and judges nothing."""
