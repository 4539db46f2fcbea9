"""What a written file says, the same for both languages"""
