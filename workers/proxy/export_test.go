package proxy

// A step of a real agent takes more than images of tests need to have, whose every byte is read many times.
func init() { fillStep = 8 << 20 }
