module nigh.test/wire

go 1.26.0
