package readmetest

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheTableOfRoomsIsComplete checks that CONTRIBUTING.md describes each package of emulator/internal.
func TestTheTableOfRoomsIsComplete(t *testing.T) {
	_, table, ok := strings.Cut(readMarkdown(t, "CONTRIBUTING.md"), "| room of `emulator/internal` |")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	entries, err := os.ReadDir(filepath.Join(root, "emulator", "internal"))
	require.NoError(t, err)
	for _, entry := range entries {
		if entry.IsDir() {
			require.Contains(t, table, "`"+entry.Name()+"`")
		}
	}
}

// TestThePictureNamesOurPackages checks that each package in the picture of the parts exists, and that none is missing.
func TestThePictureNamesOurPackages(t *testing.T) {
	picture, err := os.ReadFile(filepath.Join(root, "docs", "parts.svg"))
	require.NoError(t, err)
	var svg struct {
		Texts []struct {
			Class string `xml:"class,attr"`
			Text  string `xml:",chardata"`
		} `xml:"text"`
	}
	require.NoError(t, xml.Unmarshal(picture, &svg))
	var names []string
	for _, text := range svg.Texts {
		if text.Class == "name" {
			names = append(names, text.Text)
		}
	}
	require.Subset(t, names, []string{"webpubsub", "wsclient", "eventhandler", "tunnel", "emulator"})
	for _, name := range names {
		folder := filepath.Join(root, filepath.FromSlash(name))
		if name == "webpubsub" {
			folder = root
		}
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files, name)
	}
}
