package webpubsub

import "errors"

// ErrInvalidArgument is what errors.Is finds in the error of every call that was refused before anything was sent.
var ErrInvalidArgument = errors.New("invalid argument")
