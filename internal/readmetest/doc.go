// Package readmetest tests the documentation. It compiles every Go block of every Markdown file in the repository, runs the
// complete programs and the tests among the blocks on the emulator, follows every link inside the repository, and checks the
// README's figures about dependencies, the table of the emulator's rooms, the picture of the parts and the notes of a release.
//
// There are three kinds of Go blocks:
//
//   - A complete file begins with a package clause and is compiled unchanged. A program is also run, with the connection
//     string of an emulator in WEBPUBSUB_CONNECTION_STRING, and must exit with 0.
//   - Declarations are compiled as part of a file. A block with a test function is run as a test.
//   - Anything else is compiled as the statements of a function that returns an error.
//
// Declarations and statements may use the declarations in testdata/assumed.go, and every package in the table imports without
// importing it. "{ ... }" stands for a body that the reader writes. "..." at the end of a composite literal stands for more
// fields. A compiler error names the line of the Markdown file.
package readmetest
