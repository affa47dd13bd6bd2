// Package readmetest tests the documentation: it compiles every Go block of every Markdown file of the repository, runs
// the whole programs and tests among them on the emulator, follows every link inside the repository, and checks the
// figures that the README gives about dependencies.
//
// A Go block is one of three things:
//
//   - A whole program or test file begins with a package clause. It is compiled as it stands. A program is then run with
//     WEBPUBSUB_CONNECTION_STRING set to that of an emulator, and must exit with 0.
//   - Declarations parse as they do in a file. A block with a test function is run as a test.
//   - Anything else is statements of a function that returns an error.
//
// Declarations and statements may use what testdata/assumed.go declares, and any package that the table imports names, so
// that a fragment need not repeat them. "{ ... }" stands for a body that the reader writes, and "..." at the end of a
// composite literal for more fields. A compiler error names the line of the Markdown file.
package readmetest
