package readmetest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// imports are the packages that a fragment may use without importing them.
var imports = map[string]string{
	"azcore":       "github.com/Azure/azure-sdk-for-go/sdk/azcore",
	"policy":       "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy",
	"azidentity":   "github.com/Azure/azure-sdk-for-go/sdk/azidentity",
	"webpubsub":    "github.com/awps-go/webpubsub",
	"emulator":     "github.com/awps-go/webpubsub/emulator",
	"eventhandler": "github.com/awps-go/webpubsub/eventhandler",
	"tunnel":       "github.com/awps-go/webpubsub/tunnel",
	"wsclient":     "github.com/awps-go/webpubsub/wsclient",
	"assert":       "github.com/stretchr/testify/assert",
	"require":      "github.com/stretchr/testify/require",
	"context":      "context",
	"errors":       "errors",
	"fmt":          "fmt",
	"http":         "net/http",
	"io":           "io",
	"log":          "log",
	"os":           "os",
	"slog":         "log/slog",
	"testing":      "testing",
	"time":         "time",
}

const root = "../.." // the root folder of the module

// block is one block of Go code in a Markdown file.
type block struct {
	file string // the path from the root, with slashes
	line int    // the number of the first line of code
	code string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.file, b.line) }

// kind determines how a block is compiled.
type kind int

const (
	statements kind = iota
	declarations
	tests   // declarations with a test function
	program // package main
	file    // any other package
)

var (
	hasTest           = regexp.MustCompile(`(?m)^func Test\w*\(`)
	placeholderBody   = regexp.MustCompile(`\{ \.\.\. \}`)
	placeholderFields = regexp.MustCompile(`(\{|, )\.\.\.\}`)
)

// goCode returns the block's code with its placeholders replaced by valid Go.
func (b block) goCode() string {
	return placeholderFields.ReplaceAllString(placeholderBody.ReplaceAllString(b.code, `{ panic("the reader's") }`), "$1}")
}

func (b block) kind() kind {
	if parsed, err := parser.ParseFile(token.NewFileSet(), "", b.code, parser.PackageClauseOnly); err == nil {
		if parsed.Name.Name == "main" {
			return program
		}
		return file
	}
	_, err := parser.ParseFile(token.NewFileSet(), "", "package p; "+b.goCode(), parser.SkipObjectResolution)
	switch {
	case err != nil:
		return statements
	case hasTest.MatchString(b.code):
		return tests
	}
	return declarations
}

// markdownFiles returns the paths of the repository's Markdown files from the root, with slashes.
func markdownFiles(t *testing.T) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch name := entry.Name(); {
		case entry.IsDir() && (name == "node_modules" || name == ".git"):
			return filepath.SkipDir
		case !entry.IsDir() && filepath.Ext(name) == ".md":
			relative, err := filepath.Rel(root, path)
			files = append(files, filepath.ToSlash(relative))
			return err
		}
		return nil
	}))
	return files
}

// readMarkdown returns a file's text with Unix line endings.
func readMarkdown(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	require.NoError(t, err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// goBlocks returns the Go blocks of a Markdown text, including indented blocks in lists.
func goBlocks(name, text string) (blocks []block) {
	var open *block
	var indent string
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimLeft(line, " ")
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```go"):
			indent = line[:len(line)-len(trimmed)]
			open = &block{file: name, line: i + 2}
		case open != nil && strings.TrimSpace(line) == "```":
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.code += strings.TrimPrefix(line, indent) + "\n"
		}
	}
	return blocks
}

// source returns a Go file with the code of the block. pkg is the package name of a fragment.
func (b block) source(pkg string) (string, error) {
	position := "//line " + b.String() + "\n"
	if k := b.kind(); k == program || k == file {
		return position + b.code, nil
	}
	code := b.goCode()
	open, shut := "package "+pkg+"; ", ""
	if b.kind() == statements {
		open, shut = open+"func _() error {\n", "\nreturn nil\n}\n"
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), "", open+code+shut, parser.SkipObjectResolution)
	if err != nil {
		return "", fmt.Errorf("%s: %w", b, err)
	}
	return "package " + pkg + "; " + importsOf(parsed) + strings.TrimPrefix(open, "package "+pkg+"; ") + position +
		useAll(parsed, open+code+shut)[len(open):], nil
}

// importsOf returns the import declarations for the packages that a file uses.
func importsOf(parsed *ast.File) string {
	used := map[string]bool{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := selector.X.(*ast.Ident); ok && imports[x.Name] != "" {
				used[x.Name] = true
			}
		}
		return true
	})
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(used)) {
		fmt.Fprintf(&b, "import %s %q\n", name, imports[name])
	}
	return b.String()
}

// useAll adds a use of every variable that the functions in a text define, because a fragment may end before it uses them. The
// line numbers do not change.
func useAll(parsed *ast.File, text string) string {
	for _, declaration := range slices.Backward(parsed.Decls) { // from the end, so that offsets stay valid
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || function.Body == nil || len(function.Body.List) == 0 {
			continue
		}
		list := function.Body.List
		end := int(list[len(list)-1].End() - parsed.FileStart)
		if function.Type.Results != nil { // before the last return statement
			end = int(list[len(list)-1].Pos() - parsed.FileStart)
		}
		names := map[string]bool{}
		for _, statement := range list {
			if assign, ok := statement.(*ast.AssignStmt); ok && assign.Tok == token.DEFINE {
				for _, left := range assign.Lhs {
					if name, ok := left.(*ast.Ident); ok && name.Name != "_" {
						names[name.Name] = true
					}
				}
			}
		}
		var uses strings.Builder
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if function.Type.Results != nil {
				fmt.Fprintf(&uses, "_ = %s; ", name)
			} else {
				fmt.Fprintf(&uses, "; _ = %s", name)
			}
		}
		text = text[:end] + uses.String() + text[end:]
	}
	return text
}
